// Orders as BullMQ jobs: `fill FILE` queues them, `work` books them, 32 at a time. The job id is the order id.
import { Queue, Worker } from 'bullmq';
import { award, CONCURRENCY, fill } from './award_order.mjs';

const connection = { path: process.env.REDIS_SOCKET };
const [task, file] = process.argv.slice(2);

if (task === 'fill') {
  const queue = new Queue('orders', { connection });
  await fill(file, (orders) =>
    queue.addBulk(orders.map((order) => ({ name: 'paid', data: order, opts: { jobId: `order-${order.id}` } }))),
  );
  await queue.close();
  process.exit(0);
} else {
  const worker = new Worker('orders', (job) => award(job.data), {
    connection,
    concurrency: CONCURRENCY,
    removeOnComplete: { count: 0 },
  });
  worker.on('error', (error) => console.error(error));
  worker.on('failed', (job, error) => console.error(error));
}
