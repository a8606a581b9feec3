// Express, Shopify's library, and a BullMQ job per delivery. The job id is the webhook id: a second is ignored.
import { Queue } from 'bullmq';
import { serve } from './delivery_check.mjs';

const queue = new Queue('webhooks', { connection: { path: process.env.REDIS_SOCKET } });
await queue.waitUntilReady();

serve((webhookId, job) => queue.add('delivery', job, { jobId: webhookId }));
