"""Detection and instance segmentation with detectron2: Mask R-CNN on any of our encoders, as in ViTDet.

The only package that imports detectron2. Run it as ``python -m cl_vs_mim.transfer.detection``.
"""
