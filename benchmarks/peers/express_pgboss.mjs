// Express, Shopify's library, and a pg-boss job per delivery. The job id is the webhook id: a second is ignored.
// Its own upkeep is off, as there is no worker here: that spares it work.
import { PgBoss } from 'pg-boss';
import { serve } from './delivery_check.mjs';

const boss = new PgBoss({
  host: process.env.POSTGRES_SOCKET,
  user: 'postgres',
  database: 'postgres',
  max: Number(process.env.POOL_SIZE),
  supervise: false,
  schedule: false,
});
boss.on('error', (error) => console.error(error));
await boss.start();
await boss.createQueue('webhooks');

serve((webhookId, job) => boss.send('webhooks', job, { id: webhookId }));
