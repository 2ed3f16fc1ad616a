"""Semantic segmentation with mmseg's heads on any encoder, on folders laid out as ADE20K.

The network, the loss and the measure are mmseg's; the loop is that of pre-training, which is why a run survives being
killed. mmseg is imported in here only.
"""

import warnings

# mmcv-lite says at import that compiled operators are missing; none of the parts used here needs them
warnings.filterwarnings("ignore", message="Fail to import ``MultiScaleDeformableAttention``")
