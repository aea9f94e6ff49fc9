"""Training many MobileNets as one program, timed beside one after another in PyTorch and Keras.

`cases` says what is measured, `data` makes the images, `flops` counts operations and knows devices,
`ours`, `torch_peer` and `keras_peer` are the engines' work, `ablation` undoes single choices of
ours, `worker` is a process that does the work when asked, `session` asks the processes in turn,
`compare` sets the measurements beside each other, and `report` prints them.
"""
