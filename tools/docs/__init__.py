"""The pages of the documentation, gathered and generated for `make docs`; mkdocs.yml says how they become a site."""
