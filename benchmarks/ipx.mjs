// ipx with its own node listener, in a cluster of processes: node ipx.mjs <folder with node_modules> <pictures> <port> <processes>
import cluster from "node:cluster";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [, , modules, pictures, port, processes] = process.argv;
if (cluster.isPrimary) {
  for (let i = 0; i < Number(processes); i++) cluster.fork();
  process.on("SIGTERM", () => process.exit(0)); // the workers end with their channel
} else {
  const found = createRequire(join(modules, "node_modules", "x.js")).resolve("ipx");
  const { createIPX, createIPXNodeServer, ipxFSStorage } = await import(pathToFileURL(found).href);
  createServer(createIPXNodeServer(createIPX({ storage: ipxFSStorage({ dir: pictures }) })))
    .listen(Number(port), "127.0.0.1");
}
