"""int8 on the CPU: linear layers as integer products with fp32 between them.

`model` makes an int8 twin of a causal model: `linear` replaces single linear layers, `mlp` whole
feed-forward blocks, `head` the output head. All three multiply int8 matrices exactly in int32 and
do the pointwise steps around the product with the kernels of `native` (compiled C) or `plain`
(torch).

Weights have one scale per output channel, activations one scale per token, computed at run time.
Integer sums are exact and every row is rounded on its own, so a row's numbers do not depend on its
neighbours in the batch.
"""
