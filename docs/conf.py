"""Configuration of Sphinx, on top of what the Astropy project shares."""

import os

import diffsky

try:
    from sphinx_astropy.conf.v2 import *  # noqa: F403
    from sphinx_astropy.conf.v2 import exclude_patterns, intersphinx_mapping
except ImportError as err:
    raise ImportError(
        'building the documentation needs its extra: pip install "diffsky-radio[docs]"'
    ) from err

project = "diffsky"
author = "The diffsky developers"
copyright = f"2026, {author}"
version = release = diffsky.__version__

exclude_patterns.append("_static")

# Links into other projects need the network, and an inventory that cannot be had is a warning.
# So they are made where the pages are published and on request; a build elsewhere is offline.
if os.environ.get("READTHEDOCS") == "True" or os.environ.get("DIFFSKY_INTERSPHINX") == "1":
    for unused in ("pythonloc", "astropy.org", "h5py"):
        intersphinx_mapping.pop(unused, None)
    intersphinx_mapping["photutils"] = ("https://photutils.readthedocs.io/en/stable/", None)
    intersphinx_mapping["regions"] = ("https://astropy-regions.readthedocs.io/en/stable/", None)
    intersphinx_mapping["torch"] = ("https://docs.pytorch.org/docs/stable/", None)
else:
    intersphinx_mapping.clear()

automodapi_inheritance_diagram = False
automodsumm_inherited_members = False

html_title = f"diffsky {release}"
html_theme_options = {"collapse_navigation": True, "navigation_depth": 2, "show_nav_level": 2}
htmlhelp_basename = "diffskydoc"
man_pages = [("index", "diffsky", "diffsky", [author], 1)]
latex_documents = [("index", "diffsky.tex", "diffsky", author, "manual")]
