// Orders as pg-boss jobs: `fill FILE` queues them, `work` books them, 32 at a time and settled one by one.
import { PgBoss } from 'pg-boss';
import { award, CONCURRENCY, fill } from './award_order.mjs';

const boss = new PgBoss({ host: process.env.POSTGRES_SOCKET, user: 'postgres', database: 'postgres' });
const [task, file] = process.argv.slice(2);
boss.on('error', (error) => console.error(error));
await boss.start();
await boss.createQueue('orders');

async function settle(job) {
  try {
    await award(job.data);
    return { id: job.id, status: 'completed' };
  } catch (error) {
    console.error(error);
    return { id: job.id, status: 'failed' };
  }
}

if (task === 'fill') {
  await fill(file, (orders) =>
    boss.insert(
      'orders',
      orders.map((order) => ({ data: order })),
    ),
  );
  await boss.stop();
  process.exit(0);
} else {
  const options = {
    batchSize: CONCURRENCY,
    burstWhenBatchFull: true,
    pollingIntervalSeconds: 0.5,
    perJobResults: true,
  };
  await boss.work('orders', options, (jobs) => Promise.all(jobs.map(settle)));
}
