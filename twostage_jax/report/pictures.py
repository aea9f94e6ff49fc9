"""Pictures that are not charts of scores: images, the data flow, the map of features."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from twostage_jax.report import style
from twostage_jax.report.looks import PAPER
from twostage_jax.resampling.plan import Plan
from twostage_jax.study.figure_data import FigureFeatures

STEPS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def interpolate(
    pair: UInt8[np.ndarray, "2 h w 3"], steps: Sequence[float] = STEPS
) -> UInt8[np.ndarray, "steps h w 3"]:
    """Returns the images that SMOTE makes between a base and its neighbor, as the study does."""
    zeros = np.zeros(len(steps), np.int64)
    return Plan(zeros, zeros + 1, np.array(steps, np.float64), zeros).materialize(pair)


def smote(pair: UInt8[np.ndarray, "2 h w 3"]) -> Figure:
    """Draws Fig. 1: interpolated images between two real ones, which stand at both ends."""
    figure, (panels,) = style.grid(1, len(STEPS), 1.4)
    for panel, image, step in zip(panels, interpolate(pair), STEPS, strict=True):
        _show(panel, image)
        panel.set_title("real image" if step in (0, 1) else f"step {step:g}")
    return figure


def samples(images: UInt8[np.ndarray, "classes n h w 3"], names: Sequence[str]) -> Figure:
    """Draws Fig. 3: one row of images per class."""
    classes, count, height, width, _ = images.shape
    gap = 2  # pixels
    sheet = np.full((classes * (height + gap) - gap, count * (width + gap) - gap, 3), 255, np.uint8)
    for row in range(classes):
        for column in range(count):
            top, left = row * (height + gap), column * (width + gap)
            sheet[top : top + height, left : left + width] = images[row, column]
    figure, ((panel,),) = style.grid(1, 1, style.WIDTH * 0.8 * sheet.shape[0] / sheet.shape[1])
    _show(panel, sheet)
    centers = np.arange(classes) * (height + gap) + height / 2
    panel.set_yticks(centers, names)
    panel.tick_params(length=0)
    return figure


def _show(panel: Axes, image: UInt8[np.ndarray, "h w 3"]) -> None:
    panel.imshow(image, interpolation="none")
    panel.set(xticks=[], yticks=[])
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)


def data_flow() -> Figure:
    """Draws Fig. 2: the data flow in the two stages of TS SMOTE+RUS."""
    figure, ((panel,),) = style.grid(1, 1, 3.1)
    panel.set(xlim=(0, 100), ylim=(0, 43))
    panel.axis("off")
    green, plum, gray = PAPER["is_smote"].color, PAPER["ts_smote_rus"].color, "#555555"
    boxes = [
        (9, 21, "training\nimages,\nimbalanced", gray),
        (38, 33, "balanced\nimages", green),
        (82, 33, "network:\nlayers and head", green),
        (38, 9, "trained layers,\nfixed", plum),
        (60, 9, "features", plum),
        (82, 9, "head,\nfine-tuned", plum),
    ]
    look = {"boxstyle": "round,pad=0.3", "facecolor": "white", "linewidth": 1.4}
    for x, y, text, color in boxes:
        panel.add_patch(FancyBboxPatch((x - 7.5, y - 5), 15, 10, edgecolor=color, **look))
        panel.text(x, y, text, ha="center", va="center", fontsize=8.5)
    arrows = [
        ((17, 24), (30, 33), "1 oversample\n(SMOTE)", (19.5, 33.5)),
        ((46, 33), (74, 33), "2 train all layers", (60, 35)),
        ((17, 18), (30, 9), "3 pass the\noriginal images", (18.5, 8.5)),
        ((46, 9), (52, 9), "4", (49, 11)),
        ((68, 9), (74, 9), "5, 6", (71, 11)),
        ((82, 27.6), (82, 14.6), "head continues", (84, 20.5)),
        ((76, 27.6), (42, 14.6), "layers stay fixed", (51, 22.5)),
    ]
    look = {"arrowstyle": "-|>", "mutation_scale": 11, "color": gray, "linewidth": 1.1}
    for start, end, text, (x, y) in arrows:
        panel.add_patch(FancyArrowPatch(start, end, **look))
        side = "left" if text == "head continues" else "center"
        panel.text(x, y, text, ha=side, va="center", fontsize=8, color="#333333")
    steps = "stage 2: feature space (4 extract, 5 undersample at random, 6 train the head)"
    panel.text(60, 41, "stage 1: image space", ha="center", color=green, fontsize=9)
    panel.text(60, 0.5, steps, ha="center", color=plum, fontsize=9)
    return figure


def feature_map(features: FigureFeatures, names: Sequence[str]) -> Figure:
    """Draws the hidden layer's activations of test images before and after stage 2."""
    columns = style.legend_columns(names, most=4)
    below = 0.19 * max(0, -(-len(names) // columns) - 2)  # two rows of a legend have room
    figure, (panels,) = style.grid(1, 2, 4.3 + below)
    both = np.concatenate([features.before, features.after])
    # Both panels are one square around all points, so that distances are comparable.
    center = (both.max(axis=0) + both.min(axis=0)) / 2
    reach = 0.53 * (both.max(axis=0) - both.min(axis=0)).max() or 1.0
    stages = {"after stage 1": features.before, "after stage 2": features.after}
    for panel, (title, points) in zip(panels, stages.items(), strict=True):
        for label, name in enumerate(names):
            own = points[features.label == label]
            panel.scatter(
                own[:, 0],
                own[:, 1],
                s=11,
                # Colors turn round before markers, which then are others for the same color.
                marker=style.MARKERS[(label + label // len(style.COLORS)) % len(style.MARKERS)],
                color=style.COLORS[label % len(style.COLORS)],
                alpha=0.75,
                linewidths=0,
                label=name,
            )
        panel.set(title=title, xlim=center[0] + [-reach, reach], ylim=center[1] + [-reach, reach])
        panel.set_box_aspect(1)
        panel.set_xlabel(f"component 1 ({features.variance[0]:.0%} of variance)")
    panels[0].set_ylabel(f"component 2 ({features.variance[1]:.0%})")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return figure
