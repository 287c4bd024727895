import { serve } from '@hono/node-server'
import { Hono } from 'hono'

/** The baseline: a Hono route that does nothing. */
const app = new Hono()
app.get('/healthz', (c) => c.json({}))
serve({ fetch: app.fetch, hostname: '127.0.0.1', port: Number(process.argv[2]) })
