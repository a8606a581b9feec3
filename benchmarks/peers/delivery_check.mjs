// What both Express peers share: the route, Shopify's own check of a delivery, and a 200 after the durable write.
import '@shopify/shopify-api/adapters/node';
import { ApiVersion, LogSeverity, shopifyApi } from '@shopify/shopify-api';
import express from 'express';

const shopify = shopifyApi({
  apiKey: 'bench',
  apiSecretKey: process.env.SECRET,
  apiVersion: Object.values(ApiVersion).at(-1),
  hostName: 'localhost',
  isEmbeddedApp: false,
  logger: { level: LogSeverity.Error },
});

/** Serves deliveries; `store(webhookId, job)` resolves once the job is durable, or was before. */
export function serve(store) {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.get('/readyz', (request, response) => response.sendStatus(200));
  app.post('/webhooks/shopify/:app', express.text({ type: '*/*', limit: '16mb' }), async (request, response) => {
    const check = await shopify.webhooks.validate({
      rawBody: request.body,
      rawRequest: request,
      rawResponse: response,
    });
    if (!check.valid) {
      response.sendStatus(401);
      return;
    }
    await store(check.webhookId, { topic: check.topic, shop: check.domain, payload: JSON.parse(request.body) });
    response.sendStatus(200);
  });
  app.listen(Number(process.env.PORT), '127.0.0.1');
}
