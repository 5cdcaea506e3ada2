// Parses an AsyncAPI document by the official parser; says what it finds, and fails for an error
// or a warning.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const SEVERITIES = ["error", "warning", "information", "hint"];
const path = process.argv[2];
const { document, diagnostics } = await new Parser().parse(readFileSync(path, "utf8"), { source: path });
for (const { severity, code, message, path: at } of diagnostics) {
  console.error(`${SEVERITIES[severity]} ${code} at ${at.join(".")}: ${message}`);
}
const failed = !document || diagnostics.some(({ severity }) => severity <= 1);
if (!failed) console.log(`${document.version()} ${document.channels().length} channels`);
process.exitCode = failed ? 1 : 0;
