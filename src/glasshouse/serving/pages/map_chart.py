"""The chart of a map: tens of thousands of points, drawn by the browser's graphics processor.

plotly.js comes with NiceGUI; no other host is asked for it.
"""

from pathlib import Path
from typing import Any

import nicegui
from nicegui.element import Element

_PLOTLY = Path(nicegui.__file__).parent / "elements" / "plotly" / "dist"


class MapChart(Element, component="map_chart.js", esm={"nicegui-plotly": str(_PLOTLY)}):
    """Points that can be selected; emits `area` with the selected ones as bits.

    options: points, images: addresses; count; planes: names of the layouts; plane: the one that is
    shown; looks: names and colours of each colouring; colouring; ramp: colours of a value.
    """

    def __init__(self, options: dict[str, Any], description: str) -> None:
        super().__init__()
        self._props.update(options)
        self._props["description"] = description

    def show(self, **options: Any) -> None:
        """Change some of the options."""
        self._props.update(options)
        self.update()

    def use(self, method: str, *arguments: Any) -> None:
        """Call a method of the script: mode, zoom, whole or highlight."""
        self.run_method(method, *arguments)
