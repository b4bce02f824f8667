"""A store's whole content from one place to another: copies between engines, backups, and what is made of them."""
