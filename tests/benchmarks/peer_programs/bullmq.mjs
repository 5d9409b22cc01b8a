// A webhook sender as BullMQ's documents show one: jobs in Redis, fifty at a time, sent by undici.
// node bullmq.mjs REDIS_PORT SINK_PORT EQUAL: EQUAL is "equal" where it signs each and logs a line, as hookd does.
// It says its pid's port once it is ready. Each line on stdin is a number of events: it queues them, in hundreds, and
// says "done" once all are delivered.
import { createHmac, randomUUID } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { createRequire } from 'node:module'

const require = createRequire(process.env.PEERS_NODE_MODULES)
const { Queue, Worker } = require('bullmq')
const { Agent, request } = require('undici')

const [redisPort, sinkPort, equal] = process.argv.slice(2)
const connection = { host: '127.0.0.1', port: Number(redisPort), maxRetriesPerRequest: null }
const agent = new Agent({ connections: 50 })
const log = createWriteStream('/dev/null')
log.on('error', error => console.error('log', error.message))
const key = Buffer.from('c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0', 'base64')
const queue = new Queue('webhooks', { connection })
let left = 0

async function deliver(job) {
  const body = JSON.stringify(job.data.payload)
  const headers = { 'content-type': 'application/json' }
  if (equal === 'equal') {
    const at = Math.floor(Date.now() / 1000)
    headers['webhook-id'] = job.id
    headers['webhook-timestamp'] = String(at)
    headers['webhook-signature'] = 'v1,' + createHmac('sha256', key).update(`${job.id}.${at}.${body}`).digest('base64')
  }
  const begun = performance.now()
  const { statusCode, body: answer } = await request(`http://127.0.0.1:${sinkPort}/${job.data.client}`, {
    method: 'POST', headers, body, dispatcher: agent
  })
  await answer.dump()
  if (equal === 'equal') {
    log.write(JSON.stringify({
      ts: new Date().toISOString(), event: 'delivery.attempted', event_id: job.id, client_id: job.data.client,
      status_code: statusCode, duration_seconds: (performance.now() - begun) / 1000
    }) + '\n')
  }
  if (statusCode !== 200) throw new Error(`answered ${statusCode}`)
}

const worker = new Worker('webhooks', deliver, { connection, concurrency: 50, removeOnComplete: { count: 0 } })
worker.on('failed', (job, error) => console.error(error.message))
worker.on('completed', () => { left -= 1; if (left === 0) console.log('done') })
await worker.waitUntilReady()
console.log(':' + process.pid)

for await (const line of createInterface({ input: process.stdin })) {
  const count = Number(line)
  left += count
  for (let begin = 0; begin < count; begin += 100) {
    const jobs = []
    for (let n = begin; n < Math.min(begin + 100, count); n += 1) {
      const payload = { invoice: 'in_1', amount: 1999, currency: 'EUR' }
      const opts = { jobId: 'evt_' + randomUUID(), attempts: 6, backoff: { type: 'exponential', delay: 5000 } }
      jobs.push({ name: 'invoice.paid', data: { client: `c${n % 50}`, payload }, opts })
    }
    await queue.addBulk(jobs)
  }
}
await worker.close()
await queue.close()
