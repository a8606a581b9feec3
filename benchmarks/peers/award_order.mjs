// What both Node workers do with an order: one prepared call of award_order() on a pool of 32 connections.
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import pg from 'pg';

export const CONCURRENCY = 32;
const FILL_BATCH = 500;
const text = 'SELECT award_order($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)';
const pool = new pg.Pool({
  host: process.env.POSTGRES_SOCKET,
  user: 'postgres',
  database: 'postgres',
  max: CONCURRENCY,
});

/** Books one order as Shopify sends it; a second time changes nothing. */
export async function award(order) {
  const lines = order.line_items;
  await pool.query({
    name: 'award_order',
    text,
    values: [
      process.env.SHOP_ID,
      order.id,
      order.name,
      order.currency,
      order.subtotal_price,
      order.financial_status,
      order.created_at,
      order.updated_at,
      order.customer.id,
      lines.map((line) => line.id),
      lines.map((line) => line.product_id),
      lines.map((line) => line.variant_id),
      lines.map((line) => line.quantity),
      lines.map((line) => line.price),
      lines.map((line) => line.total_discount),
    ],
  });
}

/** Hands the orders of a file, one a line, to `add` in batches. */
export async function fill(file, add) {
  let batch = [];
  for await (const line of createInterface({ input: createReadStream(file) })) {
    batch.push(JSON.parse(line));
    if (batch.length === FILL_BATCH) {
      await add(batch);
      batch = [];
    }
  }
  if (batch.length) await add(batch);
}
