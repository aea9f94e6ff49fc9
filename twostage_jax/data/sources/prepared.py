"""Sets in the form in which TensorFlow Datasets keeps them, written and read without TensorFlow."""

from collections.abc import Iterator
from pathlib import Path

from twostage_jax.support.errors import InputError

# TensorFlow Datasets tries ten times with doubling pauses, which takes over three minutes without a
# network. Five tries take six seconds.
DOWNLOAD_TRIES = 5


def prepare(builder, *, require_checksums: bool = False) -> None:
    """Downloads a set, with progress bars, and writes the prepared form.

    Args:
        builder: of TensorFlow Datasets.
        require_checksums: refuse a download whose checksum is not known.

    Raises:
        Exception: of any kind; the code of the set runs here.
    """
    from tensorflow_datasets.core.download import download_manager, downloader

    before = downloader.MAX_RETRIES
    downloader.MAX_RETRIES = DOWNLOAD_TRIES
    try:
        builder.download_and_prepare(
            # The default format needs TensorFlow to be written and read, this one does not. Nor
            # does parquet, but TensorFlow Datasets 4.9 loses examples beyond 100 in it.
            file_format="array_record",
            download_config=download_manager.DownloadConfig(
                try_download_gcs=False, force_checksums_validation=require_checksums
            ),
        )
    finally:
        downloader.MAX_RETRIES = before


def read_split(builder, split: str) -> list[dict]:
    """The examples of one split of a prepared set, in the order of its files.

    `image` is encoded, `label` an integer.

    Raises:
        InputError: there are more or fewer than its description says.
        OSError: a file cannot be read, or is cut short.
    """
    # Damaged files give examples without content.
    examples = [
        example
        for example in _examples(builder, split)
        if None not in (example.get("image"), example.get("label"))
    ]
    expected = builder.info.splits[split].num_examples
    if len(examples) != expected:
        raise InputError(
            f"{builder.data_dir} holds {len(examples)} images of the split {split}; expected the "
            f"{expected} of its dataset_info.json: delete that folder to prepare it again"
        )
    return examples


def one_line(error: Exception) -> str:
    """The message of an error on one line, not longer than three lines of a screen."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 240 else f"{text[:240]}..."


def _examples(builder, split: str) -> Iterator[dict]:
    from tensorflow_datasets.core.decode import SkipDecoding

    decoders = {"image": SkipDecoding()}
    if builder.info.file_format.value != "tfrecord":
        yield from builder.as_data_source(split, decoders=decoders)
        return
    # TFRecord is what earlier preparations with TensorFlow wrote.
    for path in builder.info.splits[split].filepaths:
        for record in _tfrecords(Path(path)):
            yield builder.info.features.deserialize_example_np(record, decoders=decoders)


def _tfrecords(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file: each is 8 bytes length, 4 bytes CRC, content, 4 bytes CRC."""
    content = path.read_bytes()
    position = 0
    while position < len(content):
        length = int.from_bytes(content[position : position + 8], "little")
        start, position = position + 12, position + 16 + length
        if position > len(content):
            raise OSError(f"{path.name} is cut short")
        yield content[start : start + length]
