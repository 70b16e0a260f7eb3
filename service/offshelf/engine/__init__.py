"""From image bytes to features: decoding, views, batching and the engines that run networks."""
