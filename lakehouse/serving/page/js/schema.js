// Show the OpenAPI document with Swagger UI, whose requests carry the API key of this tab.

import { key } from "./api.js";

SwaggerUIBundle({
  url: "/schema/openapi.json",
  dom_id: "#schema",
  deepLinking: true,
  validatorUrl: null, // the default validator is another host
  requestInterceptor: (request) => {
    if (key()) request.headers.authorization ??= `Bearer ${key()}`;
    return request;
  },
});
