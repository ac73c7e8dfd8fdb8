"""Print the defaults of transformers' tokenizer classes as JSON; run by the interpreter of a toolchain."""

import inspect
import json
import sys

import transformers


def main() -> None:
    found = {}
    for name in sys.argv[1:]:
        kind = getattr(transformers, name)
        parameters = inspect.signature(kind.__init__).parameters.values()
        defaults = {item.name: item.default for item in parameters if item.default is not inspect.Parameter.empty}
        inputs = list(kind.model_input_names)
        found[name] = {"defaults": defaults, "padding_side": kind.padding_side, "input_names": inputs}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
