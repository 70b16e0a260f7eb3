"""The process that owns a device: takes images and jobs from the queue and answers them."""
