// A collector of traces: OTLP over HTTP in JSON, as OpenTelemetry's own takes it.

import { createServer } from "node:http";
import { until } from "./clients.mjs";

const value = ({ stringValue, intValue }) => stringValue ?? Number(intValue);
const named = (attributes) => Object.fromEntries(attributes.map((one) => [one.key, value(one.value)]));

export class Collector {
  spans = [];

  static async start() {
    const collector = new Collector();
    collector.server = createServer(async (request, response) => {
      const body = Buffer.concat(await request.toArray()).toString();
      const right = request.method === "POST" && request.url === "/v1/traces" && request.headers["content-type"] === "application/json";
      if (right) collector.#take(JSON.parse(body));
      response.writeHead(right ? 200 : 404, { "content-type": "application/json" }).end("{}");
    });
    await new Promise((resolve) => collector.server.listen(0, "127.0.0.1", resolve));
    collector.url = `http://127.0.0.1:${collector.server.address().port}`;
    return collector;
  }

  #take({ resourceSpans }) {
    for (const { resource, scopeSpans } of resourceSpans) {
      const of = named(resource.attributes);
      for (const span of scopeSpans.flatMap(({ spans }) => spans)) this.spans.push({ ...span, of, attributes: named(span.attributes) });
    }
  }

  /** Resolves with the first span that fits, past or coming. */
  span(fits, ms = 10_000) {
    return until(() => this.spans.find(fits), ms).catch(() => {
      throw new Error(`no such span: ${fits}; came:\n${this.spans.map((span) => JSON.stringify(span)).join("\n")}`);
    });
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
