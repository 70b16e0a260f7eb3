"""Cards of the backbones, one file a family; loading one is the engine's business."""
