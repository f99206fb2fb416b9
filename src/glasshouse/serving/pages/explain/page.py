"""The page Explain: a photo or a test image, one model or two, every map and layer."""

from glasshouse.serving.pages.explain.files import routes
from glasshouse.serving.pages.lazy_page import lazy_page
from glasshouse.serving.workbench import Page

PAGE = Page(
    "/explain",
    "Explain",
    lazy_page("glasshouse.serving.pages.explain.view"),
    label="Explain",
    icon="visibility",
    routes=routes,
)
