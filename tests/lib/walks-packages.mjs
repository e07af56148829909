// Lets scripts outside of tests/ find the packages in tests/node_modules, as if they had been installed beside them: `node --import`.

import { register } from "node:module";

const resolver = `
  export async function resolve(specifier, context, next) {
    try {
      return await next(specifier, context);
    } catch (error) {
      if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
      return next(specifier, { ...context, parentURL: ${JSON.stringify(import.meta.url)} });
    }
  }`;

register(`data:text/javascript,${encodeURIComponent(resolver)}`);
