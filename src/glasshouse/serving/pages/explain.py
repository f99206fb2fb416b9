"""The page that shows why: a photo or a test picture, one model or two, every map and layer."""

from glasshouse.serving.pages.explain_files import routes
from glasshouse.serving.pages.later import later
from glasshouse.serving.workbench import Page

PAGE = Page(
    "/explain",
    "Explain",
    later("glasshouse.serving.pages.explain_view"),
    label="Explain",
    icon="visibility",
    routes=routes,
)
