// Verifies signatures as a receiver would, with the npm package `standardwebhooks`: JSON lines of
// {secret, headers, body_base64} on stdin, "ok" or "bad" for each on stdout. The package is looked for in the
// node_modules of the directory named by HOOKD_NODE_MODULES (npm install --prefix DIRECTORY standardwebhooks), or here.
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const require = createRequire(join(resolve(process.env.HOOKD_NODE_MODULES || here), "any.js"));
const { Webhook } = require("standardwebhooks");

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, headers, body_base64 } = JSON.parse(line);
  try {
    new Webhook(secret).verify(Buffer.from(body_base64, "base64"), headers);
    console.log("ok");
  } catch {
    console.log("bad");
  }
}
