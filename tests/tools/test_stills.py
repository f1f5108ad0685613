"""A stored widget carries what it shows: its picture, or its text with the position of its controls."""

import base64

import nbformat
import pytest

from tools.stills import STATE, VIEW, add_stills

PNG = base64.b64encode(b"picture").decode()
PARTS = ["slider", "menu", "image"]
MODELS = {
    "box": {
        "model_name": "VBoxModel",
        "state": {"children": ["IPY_MODEL_slider", "IPY_MODEL_menu", "IPY_MODEL_image"]},
    },
    "slider": {"model_name": "FloatSliderModel", "state": {"description": "T", "value": 0.12345}},
    "menu": {
        "model_name": "DropdownModel",
        "state": {"description": "kind", "_options_labels": ["tanh", "ReLU"], "index": 1},
    },
    "image": {"model_name": "ImageModel", "state": {}, "buffers": [{"data": PNG, "path": ["value"]}]},
    "words": {"model_name": "HTMLModel", "state": {"value": "<b>a sample</b>"}},
    "two": {"model_name": "VBoxModel", "state": {"children": ["IPY_MODEL_slider", "IPY_MODEL_words"]}},
    "bare": {"model_name": "ButtonModel", "state": {"description": "Start"}},
}


def output_of(name):
    """Return the output of a notebook that shows the widget `name` of MODELS, after `add_stills`."""
    output = nbformat.v4.new_output("display_data", data={VIEW: {"model_id": name}, "text/plain": "VBox(...)"})
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("show()", outputs=[output])])
    nb.metadata["widgets"] = {STATE: {"state": MODELS}}
    add_stills(nb)
    return nb.cells[0].outputs[0]


def test_a_picture_is_stored_with_the_position_of_the_controls():
    """The picture inside the box is the still; its alternative text says where slider and menu stand."""
    output = output_of("box")
    assert output.data["image/png"] == PNG
    assert output.metadata["image/png"]["alt"].endswith("T = 0.1235; kind: ReLU")


def test_a_text_is_stored_if_there_is_no_picture():
    """Text of a widget without picture becomes HTML, below the position of the controls."""
    assert output_of("two").data["text/html"] == "<p><em>T = 0.1235</em></p><b>a sample</b>"


@pytest.mark.parametrize("name", ["bare", "unknown"])
def test_a_widget_that_shows_nothing_gets_no_still(name):
    """A lone button, and a widget whose state is not stored, stay as they are."""
    assert set(output_of(name).data) == {VIEW, "text/plain"}
