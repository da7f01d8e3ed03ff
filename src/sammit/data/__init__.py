"""Sites: folders of images with their truth, read as they lie, split by patient, served as batches."""
