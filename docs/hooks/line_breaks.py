"""Let names in code break between their parts: at narrow widths, `model.safetensors` after the dot.

Done on the finished page, since the search index has words as they are.
"""

import re
from typing import Any

_BLOCK_OR_CODE = re.compile(r"<pre\b.*?</pre>|<code>[^<]*</code>", re.DOTALL)
# After a separator with more to come, but never within an entity such as &amp; or after "--".
_AFTER_SEPARATOR = re.compile(r"(?<=[\w\])])([._/=:,|]+)(?=[\w\[(])")
# A line that ends in the dashes of an option would be misread.
_OPTION = re.compile(r"(?<![\w-])--\w+")


def on_post_page(output: str, **_: Any) -> str:
    """Mark where inline code may break; MkDocs calls this for each page."""
    return _BLOCK_OR_CODE.sub(lambda found: with_breaks(found.group()), output)


def with_breaks(html: str) -> str:
    """The same element with `<wbr>` after separators; in blocks, only options stay whole."""
    whole = _OPTION.sub(r'<span class="whole">\g<0></span>', html)
    return whole if html.startswith("<pre") else _AFTER_SEPARATOR.sub(r"\1<wbr>", whole)
