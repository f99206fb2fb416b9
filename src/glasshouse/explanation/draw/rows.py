"""Images next to their maps: one method for several images, and misclassified images."""

from matplotlib.figure import Figure

from glasshouse.explanation.draw.canvas import (
    CELL,
    ROW,
    ColourMap,
    add_cell,
    draw_image,
    draw_map,
    method_title,
    plain_figure,
    set_title,
    shorten,
    write,
)
from glasshouse.explanation.maps.enlargement import shown
from glasshouse.explanation.nouns import Explanation, Mistakes, target_name


def draw_explanation(
    explanation: Explanation, *, colours: ColourMap = "inferno", most: int = 8
) -> Figure:
    """The images in a row, and under each its map with a colour bar in units of the logit."""
    count = min(len(explanation), most)
    figure = plain_figure(count * CELL + 0.1, 2 * ROW + 0.35)
    write(figure, (0.1, 2 * ROW + 0.3), method_title(explanation), size=10)
    maps = shown(explanation)
    for index in range(count):
        image, left = explanation.images[index], 0.1 + index * CELL
        above, _ = add_cell(figure, left, 2 * ROW)
        draw_image(above, image)
        set_title(above, shorten(target_name(explanation, index), 32))
        axes, bar = add_cell(figure, left, ROW, has_bar=True)
        draw_map(axes, explanation, maps[index], image, colours, bar)
    return figure


def draw_mistakes(mistakes: Mistakes, *, colours: ColourMap = "inferno") -> Figure:
    """A row per image: original, why the predicted, why the true, why one rather than the other."""
    count = len(mistakes.ids)
    columns = (mistakes.predicted, mistakes.true, mistakes.contrast)
    figure = plain_figure(4 * CELL + 0.1, count * ROW + 0.35)
    write(figure, (0.1, count * ROW + 0.3), mistakes.title, size=12)
    maps = [shown(explanation) for explanation in columns]
    for row in range(count):
        top = (count - row) * ROW
        axes, _ = add_cell(figure, 0.1, top)
        draw_image(axes, mistakes.predicted.images[row])
        set_title(axes, shorten(str(mistakes.ids[row]), 32, keep_end=True))
        for column, explanation in enumerate(columns):
            axes, bar = add_cell(figure, 0.1 + (column + 1) * CELL, top, has_bar=True)
            image = explanation.images[row]
            draw_map(axes, explanation, maps[column][row], image, colours, bar)
            probability = f" ({mistakes.probabilities[row]:.0%})" if column == 0 else ""
            words = ("predicted: ", "true: ", "")[column] + target_name(explanation, row)
            set_title(axes, shorten(words, 36) + probability)
    return figure
