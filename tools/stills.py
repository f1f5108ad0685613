"""The still picture of a widget: what GitHub and pages show where no kernel runs.

A notebook stores a widget as a name for something in a kernel. Beside that name these functions put what the widget
shows at the end of the run: its picture, or else its text, and above it the position of its controls.
"""

import html

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
CHILD = "IPY_MODEL_"


def models_below(name, models):
    """Return the states of the widget `name` and of all widgets inside it, in their order on the screen."""
    if name not in models:
        return []
    model = models[name]
    children = [child.removeprefix(CHILD) for child in model["state"].get("children", [])]
    return [model] + [inner for child in children for inner in models_below(child, models)]


def position_of(state):
    """Return a control's position, such as "T = 1", from its `state`, or None for a widget that is no control."""
    if not state.get("description"):
        return None
    if "_options_labels" in state and state.get("index") is not None:
        return f"{state['description']}: {state['_options_labels'][state['index']]}"
    value = state.get("value")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{state['description']} = {value:.4g}"
    return None


def picture_of(model):
    """Return the picture of an Image widget in base64, or None."""
    if model["model_name"] != "ImageModel":
        return None
    return next((part["data"] for part in model.get("buffers", []) if part["path"] == ["value"]), None)


def still(name, models):
    """Return ({MIME type: picture or text}, positions of controls) of the widget `name` with the states `models`."""
    found = models_below(name, models)
    positions = [text for text in (position_of(model["state"]) for model in found) if text]
    pictures = [picture for picture in map(picture_of, found) if picture]
    texts = [model["state"]["value"] for model in found if model["model_name"] in ("HTMLModel", "LabelModel")]
    data = {"image/png": pictures[0]} if pictures else {}
    if not pictures and any(texts):
        note = html.escape("; ".join(positions))
        data["text/html"] = f"<p><em>{note}</em></p>" * bool(note) + "\n".join(filter(None, texts))
    return data, "; ".join(positions)


def add_stills(nb):
    """Put the still picture of each widget into its output in the executed notebook `nb`, in place."""
    models = nb.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if VIEW in output.get("data", {}):
                data, positions = still(output.data[VIEW]["model_id"], models)
                output.data.update(data)
                if "image/png" in data:
                    alt = "The widget as it stands after the run" + f": {positions}" * bool(positions)
                    output.metadata["image/png"] = {"alt": alt}
