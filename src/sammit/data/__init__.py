"""Sites: folders of images with their truth, read as they lie, split by patient, served as batches."""

from sammit.data.images import site_of_images
from sammit.data.site import Site
from sammit.data.sites import PooledSite, discover, open_sites, pooled

__all__ = ["PooledSite", "Site", "discover", "open_sites", "pooled", "site_of_images"]
