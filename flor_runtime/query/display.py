"""How notebooks show a frame that holds pictures. This module needs pandas: it is imported with the first picture."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from html import escape

import pandas as pd

from flor_runtime.store.pictures import Picture

_SIDE = 96  # pixels of the longer side of a small picture
_LARGEST = 1 << 20  # bytes of one that stands in a table
_MOST = 16 << 20  # bytes of all


class PictureFrame(pd.DataFrame):
    """A data frame whose pictures notebooks show, small. All else, and what is taken from it, is pandas' own."""

    @property
    def _constructor(self) -> Callable[..., PictureFrame]:
        return PictureFrame

    def _repr_html_(self) -> str | None:
        """pandas' own table, with an image wherever a picture stands.

        pandas escapes all texts. A picture is a text that nobody can guess until that is done, so that what is logged
        can't be taken for markup.
        """
        mark = f"picture-{os.urandom(8).hex()}-"
        found: list[Picture] = []

        def named(value: object) -> object:
            if not isinstance(value, Picture):
                return value
            found.append(value)
            return f"{mark}{len(found) - 1}."

        plain = pd.DataFrame(self)
        for number, dtype in enumerate(self.dtypes):
            if pd.api.types.is_object_dtype(dtype):
                plain.isetitem(number, plain.iloc[:, number].map(named).to_numpy(object))
        html: str | None = plain._repr_html_()  # type: ignore[operator]
        if html is None:  # the user has switched it off
            return None
        left = _MOST

        def shown(match: re.Match[str]) -> str:
            nonlocal left
            picture = found[int(match[1])]
            if len(picture.png) > min(_LARGEST, left):
                return escape(str(picture))
            left -= len(picture.png)
            style = f"max-width:{_SIDE}px;max-height:{_SIDE}px;image-rendering:auto"
            return f'<img src="{picture.data_uri()}" title="{escape(str(picture))}" style="{style}">'

        return re.sub(rf"{mark}(\d+)\.", shown, html)
