"""A figure: drawn by Vega without network or clock, the same bytes for the same data."""

from dataclasses import dataclass

import altair as alt
import pandas as pd
import vl_convert

from opproof.summary.figures import theme
from opproof.summary.figures.svg import tidy


@dataclass(frozen=True)
class Figure:
    """`data` is what is drawn; `description` says in words what is to be seen in it."""

    name: str
    title: str
    description: str
    svg: str
    data: pd.DataFrame

    def as_csv(self) -> str:
        """Return the data, a row a point, numbers to six digits."""
        return self.data.to_csv(index=False, lineterminator="\n", float_format="%.6g")


def draw(
    name: str, title: str, description: str, chart: alt.TopLevelMixin, data: pd.DataFrame
) -> Figure:
    """Return a figure; `name` is that of its files."""
    with alt.data_transformers.disable_max_rows():
        specification = theme.applied(chart).to_json()
    svg = vl_convert.vegalite_to_svg(specification)
    return Figure(name, title, description, tidy(svg, name, title, description), data)
