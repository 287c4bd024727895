import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { getRequestListener } from '@hono/node-server'
import { createRoute, OpenAPIHono } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { HTTPException } from 'hono/http-exception'
import { routePath } from 'hono/route'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import type { Registry } from 'prom-client'
import { asNetworkError, HTTP_STATUS, NetworkError } from './errors.ts'
import { issueText } from './issue.ts'
import { listenFailure } from './listen-failure.ts'
import type { Logger } from './log.ts'
import { VERSION } from './project.ts'
import { RequestMetrics } from './request-metrics.ts'
import { ErrorSchema, Health, LIMITS } from './schemas.ts'

/** How every HTTP server of the project behaves: errors, limits, metrics, documentation, opening and closing. */

export interface NodeBindings {
  incoming: IncomingMessage
  outgoing: ServerResponse
}
export type App = OpenAPIHono<{ Bindings: NodeBindings }>
export type AppContext = Context<{ Bindings: NodeBindings }>

export interface AppOptions {
  title: string
  description: string
  log: Logger
  metrics: Registry
  /** default: counts of the app's own, in `metrics` */
  requests?: RequestMetrics
  /** Adds what comes before anything of a body is read, such as who may send one. */
  guard?: (app: App) => void
  /** whether this request's body is streamed by its handler, so that the JSON body limit does not apply */
  streams?: (method: string, path: string) => boolean
}

/** A response in OpenAPI form: `answer(Schema, 'what it is')`. */
export function answer<S>(schema: S, description: string) {
  return { description, content: { 'application/json': { schema } } }
}
export const refusal = answer(ErrorSchema, 'refused: what is wrong and what to do')

/** The address that the request came from; undefined where there is no socket (tests). */
export function remoteAddress(c: AppContext): string | undefined {
  return c.env?.incoming?.socket?.remoteAddress
}

/** What each part of a request is called. */
const PARTS: Record<string, string> = { query: 'query', param: 'path', json: 'body' }

/** An app with the conventions in place; the resource files add their routes to it, `documented()` closes it. */
export function createApp(options: AppOptions): App {
  const { log, metrics } = options
  const app: App = new OpenAPIHono({
    defaultHook: (result) => {
      if (result.success) return
      const { issues } = result.error
      // The validator hands on what it was given beside what it found, though its type keeps silent about it.
      const { data } = result as { data?: unknown }
      throw new NetworkError('invalid', issueText(issues, data, PARTS[result.target] ?? result.target), {
        path: issues[0]?.path.map(String) ?? [],
      })
    },
  })
  app.onError((error, c) => {
    const known =
      error instanceof HTTPException
        ? new NetworkError(error.status === 413 ? 'too_large' : 'invalid', error.message)
        : c.env?.incoming?.errored
          ? new NetworkError('cancelled', 'the client went away')
          : asNetworkError(error)
    if (known.code === 'internal') log.error({ err: error, method: c.req.method, path: c.req.path }, 'a request failed')
    // What an unexpected failure was is for the log, not for a stranger.
    const shown =
      known.code === 'internal'
        ? new NetworkError('internal', 'an internal error; the log of this service tells more')
        : known
    return c.json(shown.toBody(), HTTP_STATUS[known.code] as ContentfulStatusCode)
  })
  app.notFound((c) =>
    c.json(new NetworkError('not_found', `no route ${c.req.method} ${c.req.path}; see /docs`).toBody(), 404),
  )
  const requests = options.requests ?? new RequestMetrics(metrics)
  app.use(async (c, next) => {
    const begin = performance.now()
    await next()
    requests.record(c.req.method, routePath(c), c.res.status, performance.now() - begin)
  })
  const tooLarge = () => {
    throw new NetworkError('too_large', `the body is larger than ${LIMITS.bodyBytes} bytes: send it in parts`)
  }
  options.guard?.(app)
  const limit = bodyLimit({ maxSize: LIMITS.bodyBytes, onError: tooLarge })
  app.on(['POST', 'PUT', 'PATCH', 'DELETE'], '*', async (c, next) => {
    if (options.streams?.(c.req.method, c.req.path)) return next()
    // curl -d announces a form where it sends JSON; every body here is JSON.
    const type = c.req.header('content-type')
    if (type === undefined || type.startsWith('application/x-www-form-urlencoded'))
      c.req.raw = new Request(c.req.raw, {
        headers: { ...Object.fromEntries(c.req.raw.headers), 'content-type': 'application/json' },
      })
    // A body of stated length is no longer than that. Only the others need their stream watched, which costs much more.
    const length = c.req.header('content-length')
    if (length === undefined || c.req.header('transfer-encoding') !== undefined) return limit(c, next)
    return Number(length) > LIMITS.bodyBytes ? tooLarge() : next()
  })
  app.openapi(
    createRoute({
      method: 'get',
      path: '/healthz',
      tags: ['service'],
      responses: { 200: answer(Health, 'the service answers') },
    }),
    (c) => c.json({ status: 'ok' as const }, 200),
  )
  app.openAPIRegistry.registerPath({
    method: 'get',
    path: '/metrics',
    tags: ['service'],
    responses: { 200: { description: 'counts and latencies, as Prometheus reads them' } },
  })
  app.get('/metrics', async (c) => c.text(await metrics.metrics(), 200, { 'content-type': metrics.contentType }))
  return app
}

/** Adds `/openapi.json` and a reference page that needs no internet. Call it after the last route. */
export function documented(app: App, options: Pick<AppOptions, 'title' | 'description'>): App {
  app.doc31('/openapi.json', {
    openapi: '3.1.0',
    info: { title: options.title, version: VERSION, description: options.description },
  })
  const assets = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'))
  const TYPES: Record<string, string> = {
    'swagger-ui.css': 'text/css',
    'swagger-ui-bundle.js': 'text/javascript',
    'favicon-32x32.png': 'image/png',
  }
  app.get('/docs', (c) =>
    c.html(docsPage(options.title), 200, {
      'content-security-policy':
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; script-src 'self'; frame-ancestors 'none'",
    }),
  )
  app.get('/docs/start.js', (c) => c.body(DOCS_START, 200, { 'content-type': 'text/javascript' }))
  app.get('/docs/:asset', (c) => {
    const type = TYPES[c.req.param('asset')]
    if (type === undefined) return c.notFound()
    return c.body(new Uint8Array(readFileSync(join(assets, c.req.param('asset')))), 200, {
      'content-type': type,
      'cache-control': 'max-age=86400',
    })
  })
  return app
}

const DOCS_START = `SwaggerUIBundle({ url: '/openapi.json', dom_id: '#docs', deepLinking: true, validatorUrl: null })`

function docsPage(title: string): string {
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${title}</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css"></head><body><div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>`
}

export interface Listening {
  /** the port in fact, also where 0 was asked for */
  readonly port: number
  /** Stops accepting, lets running requests end for up to `graceMs`, then cuts them. */
  close(graceMs?: number): Promise<void>
}

export interface ListenOptions {
  /** milliseconds that a client may take to send the head of a request (default 10,000) */
  headersTimeoutMs?: number
  /** milliseconds in which a client may send nothing of its body, or take nothing of its answer (default 60,000) */
  idleTimeoutMs?: number
  /** see every request before the app does, in this order */
  shortcuts?: readonly Shortcut[]
}

/**
 * Answers a request without the app, and says whether it has: for the few routes whose rate counts. `false` at once:
 * another may. Whatever it does not answer, or throws over, the app does, so it need not know any error. A body that it
 * read it leaves in `incoming.rawBody`.
 */
export type Shortcut = (incoming: IncomingMessage, outgoing: ServerResponse) => false | Promise<boolean>

/**
 * @throws NetworkError `unavailable` where the port is taken or the address is not this machine's
 */
export async function listen(app: App, ip: string, port: number, options: ListenOptions = {}): Promise<Listening> {
  const headersTimeout = options.headersTimeoutMs ?? 10_000
  const connectionsCheckingInterval = Math.min(1000, headersTimeout)
  const listener = getRequestListener(app.fetch)
  const appListener = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    // A quiet connection is the client's fault where it owes bytes or takes none; else it waits for this side's work.
    outgoing.on('timeout', () => {
      const { socket } = incoming
      if (!incoming.complete || socket.writableLength > 0) socket.destroy()
    })
    void listener(incoming, outgoing)
  }
  const { shortcuts = [] } = options
  const server = createServer(
    { headersTimeout, requestTimeout: 0, connectionsCheckingInterval },
    (incoming, outgoing) => {
      for (const shortcut of shortcuts) {
        const answered = shortcut(incoming, outgoing)
        if (answered === false) continue
        void answered
          .catch(() => false)
          .then((done) => {
            if (!done) appListener(incoming, outgoing)
          })
        return
      }
      appListener(incoming, outgoing)
    },
  )
  // Answers that wait behind one another on a connection may each listen for its end.
  server.on('connection', (socket) => socket.setMaxListeners(0))
  server.keepAliveTimeout = 30_000
  server.maxConnections = 10_000
  server.setTimeout(options.idleTimeoutMs ?? 60_000)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(listenFailure(error, ip, port)))
    server.listen(port, ip, resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    close: (graceMs = 2000) =>
      new Promise((resolve) => {
        const cut = setTimeout(() => server.closeAllConnections(), graceMs)
        server.close(() => {
          clearTimeout(cut)
          resolve()
        })
        server.closeIdleConnections()
      }),
  }
}
