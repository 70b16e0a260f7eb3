"""Networks that torchvision does not define; each module imports torch and is loaded late."""
