// Reads each message of a folder and writes it again, so that its bytes and its JSON can be compared with those of other
// languages: golden IN_DIR OUT_DIR, where the files are called full.message.Name--case.bin or .json.

import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, parse } from "node:path";
import { type DescFile, createRegistry, fromBinary, fromJsonString, toBinary, toJsonString } from "@bufbuild/protobuf";

const GENERATED = new URL("./gen/ordertape/v1/", import.meta.url);

/** All generated files, whatever they are called. */
async function loadFiles(): Promise<DescFile[]> {
  const modules = await Promise.all(readdirSync(GENERATED).map((name) => import(new URL(name, GENERATED).href)));
  return modules.flatMap((module: Record<string, DescFile>) =>
    Object.values(module).filter((exported) => exported.kind === "file"),
  );
}

const [inDir, outDir] = process.argv.slice(2);
if (inDir === undefined || outDir === undefined) {
  console.error("usage: golden IN_DIR OUT_DIR");
  process.exit(1);
}
const registry = createRegistry(...(await loadFiles()));
for (const file of readdirSync(inDir)) {
  const { name, ext } = parse(file);
  if (ext !== ".bin" && ext !== ".json") continue;
  const schema = registry.getMessage(name.split("--")[0] ?? "");
  if (schema === undefined) throw new Error(`${file}: no such message`);
  const bytes = readFileSync(join(inDir, file));
  if (ext === ".json") {
    const message = fromJsonString(schema, bytes.toString(), { registry });
    writeFileSync(join(outDir, `${name}.fromjson.bin`), toBinary(schema, message));
  } else {
    const message = fromBinary(schema, bytes);
    writeFileSync(join(outDir, `${name}.bin`), toBinary(schema, message));
    writeFileSync(join(outDir, `${name}.json`), toJsonString(schema, message, { registry }));
  }
}
