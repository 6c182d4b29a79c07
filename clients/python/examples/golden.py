"""Reads each message of a folder and writes it again, so that its bytes and its JSON can be compared with those of other
languages: golden IN_DIR OUT_DIR, where the files are called full.message.Name--case.bin or .json.
"""

import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from google.protobuf.descriptor_pool import Default
from google.protobuf.json_format import MessageToJson, Parse
from google.protobuf.message_factory import GetMessageClass

import ordertape.v1


def main(in_dir: Path, out_dir: Path) -> None:
    """Write all of ``in_dir`` again."""
    for module in iter_modules(ordertape.v1.__path__, "ordertape.v1."):
        if module.name.endswith("_pb2"):
            import_module(module.name)
    for file in in_dir.iterdir():
        message: Any = GetMessageClass(Default().FindMessageTypeByName(file.stem.split("--")[0]))()
        if file.suffix == ".json":
            Parse(file.read_text(), message)
            (out_dir / f"{file.stem}.fromjson.bin").write_bytes(message.SerializeToString(deterministic=True))
        elif file.suffix == ".bin":
            message.ParseFromString(file.read_bytes())
            (out_dir / f"{file.stem}.bin").write_bytes(message.SerializeToString(deterministic=True))
            (out_dir / f"{file.stem}.json").write_text(MessageToJson(message))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
