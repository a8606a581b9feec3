// A floor: bare Node that only checks the signature and stores nothing.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';

const secret = process.env.SECRET;

function isSigned(body, signature) {
  const expected = createHmac('sha256', secret).update(body).digest();
  const given = Buffer.from(signature ?? '', 'base64');
  return given.length === expected.length && timingSafeEqual(given, expected);
}

createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
    const accepted = request.method === 'GET' || isSigned(body, request.headers['x-shopify-hmac-sha256']);
    response.writeHead(accepted ? 200 : 401, { 'Content-Length': 0 });
    response.end();
  });
}).listen(Number(process.env.PORT), '127.0.0.1');
