"""The round loop, a site's side, and the engines that carry orders between them."""
