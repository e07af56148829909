// Holds what a client says and hears against the application's AsyncAPI document.

import { readFileSync } from "node:fs";

export class Contract {
  constructor(dialect) {
    this.document = JSON.parse(readFileSync(new URL(`../../docs/asyncapi/${dialect}.json`, import.meta.url), "utf8"));
  }

  has(kind, event) {
    return this.#id(kind, event) in this.document.components.messages;
  }

  /** What is wrong with a payload (`say`, `hear`) or an ack (`ack`); nothing when it is as the contract says. */
  faults(kind, event, payload) {
    const message = this.document.components.messages[this.#id(kind, event)];
    return message ? this.#check(message.payload, payload, event) : [`${event}: not in the contract`];
  }

  /** Collects the faults of whatever this stock client hears and is acked. */
  watch(socket, faults) {
    socket.onAny((event, payload) => { if (this.has("hear", event)) faults.push(...this.faults("hear", event, payload)); });
    return socket;
  }

  #id(kind, event) {
    return `${kind}_${event.replaceAll(":", "_")}`;
  }

  #check(schema, value, at) {
    if (schema.$ref) return this.#check(this.document.components.schemas[schema.$ref.split("/").at(-1)], value, at);
    const kinds = schema.oneOf ?? schema.anyOf;
    if (kinds) {
      const each = kinds.map((kind) => this.#check(kind, value, at));
      return each.some((faults) => faults.length === 0) ? [] : each.reduce((a, b) => (b.length < a.length ? b : a));
    }
    if ("const" in schema) return value === schema.const ? [] : [`${at}: ${JSON.stringify(value)} is not ${JSON.stringify(schema.const)}`];
    if (schema.enum) return schema.enum.includes(value) ? [] : [`${at}: ${JSON.stringify(value)} is none of ${schema.enum}`];
    const types = [schema.type ?? []].flat();
    if (types.length > 0 && !types.some((type) => isOf(type, value))) return [`${at}: ${JSON.stringify(value)} is no ${types}`];
    if (schema.format === "date-time" && !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(value)) return [`${at}: ${value} is no time`];
    if (Array.isArray(value) && schema.items) return value.flatMap((item, n) => this.#check(schema.items, item, `${at}[${n}]`));
    if (!schema.properties && !schema.additionalProperties) return [];
    const missing = (schema.required ?? []).filter((key) => !(key in value)).map((key) => `${at}: ${key} is missing`);
    return missing.concat(Object.entries(value).flatMap(([key, inner]) => {
      const known = schema.properties?.[key] ?? schema.additionalProperties;
      return known ? this.#check(known, inner, `${at}.${key}`) : [];
    }));
  }
}

function isOf(type, value) {
  switch (type) {
    case "null": return value === null || value === undefined;
    case "array": return Array.isArray(value);
    case "integer": return Number.isInteger(value);
    case "object": return typeof value === "object" && value !== null && !Array.isArray(value);
    default: return typeof value === type;
  }
}
