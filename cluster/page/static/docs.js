/** The documentation of the HTTP interface: Swagger UI over the server's own document, with the key of this tab. */

import { askForKey, currentKey } from "./key.js";
import { readDocument } from "./server.js";

async function start() {
  let spec;
  try {
    spec = await readDocument();
  } catch (error) {
    if (error.status === 401) askForKey(error, start);
    else document.getElementById("error").textContent = error.message;
    return;
  }
  const ui = window.SwaggerUIBundle({
    spec,
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null, // or it would ask a server of Swagger's
    onComplete: () => currentKey() && ui.preauthorizeApiKey("bearer", currentKey()),
  });
}

start();
