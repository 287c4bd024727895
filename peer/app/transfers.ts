import { createRoute } from '@hono/zod-openapi'
import { type SSEStreamingApi, streamSSE } from 'hono/streaming'
import { z } from 'zod'
import { NetworkError } from '../../common/errors.ts'
import { type App, type AppContext, answer, refusal } from '../../common/http.ts'
import { printable } from '../../common/ids.ts'
import {
  type TransferBody,
  TransferPatch,
  TransferRequest,
  TransferSchema,
  type TransferState,
  TransfersQuery,
  TransfersResponse,
} from '../../common/schemas.ts'

/** The transfer manager, as REST drives it. Every method that takes an id throws `not_found` where there is none. */
export interface Transfers {
  start(request: z.output<typeof TransferRequest>): TransferBody
  /** newest first */
  list(filter: { state?: TransferState | undefined }): TransferBody[]
  get(id: string): TransferBody | undefined
  /** @throws NetworkError `conflict` where it has ended, as the three below */
  cancel(id: string): TransferBody
  pause(id: string): TransferBody
  resume(id: string): TransferBody
  setLimit(id: string, bytesPerSecond: number | null): TransferBody
  /** The transfer now, at every change, and at its end, where the iteration ends. */
  watch(id: string, signal: AbortSignal): AsyncIterable<TransferBody>
  /** All transfers now, then each that changed. */
  watchAll(signal: AbortSignal): AsyncIterable<TransferBody>
}

/** Between two signs of life to who watches while nothing changes. */
const KEEP_ALIVE_MS = 15_000

const tags = ['transfers']
const params = z.object({ id: z.string().max(64).meta({ description: 'the number of the transfer' }) })

export function addTransferRoutes(
  app: App,
  transfers: Transfers,
  { keepAliveMs = KEEP_ALIVE_MS }: { keepAliveMs?: number } = {},
): void {
  const find = (id: string): TransferBody => {
    const transfer = transfers.get(id)
    if (!transfer) throw new NetworkError('not_found', `there is no transfer "${printable(id)}"`)
    return transfer
  }
  app.openapi(
    createRoute({
      method: 'get',
      path: '/transfers',
      tags,
      request: { query: TransfersQuery },
      responses: { 200: answer(TransfersResponse, 'those under way and recent ones, newest first'), default: refusal },
    }),
    (c) => c.json({ transfers: transfers.list(c.req.valid('query')) }, 200),
  )
  app.openapi(
    createRoute({
      method: 'post',
      path: '/transfers',
      tags,
      description:
        'The same request while it is under way is answered with that transfer; where it is paused, it goes on.',
      request: { body: { ...answer(TransferRequest, 'what to download into the shared folder'), required: true } },
      responses: { 202: answer(TransferSchema, 'it is on its way'), default: refusal },
    }),
    (c) => c.json(transfers.start(c.req.valid('json')), 202),
  )
  // Before the routes with a number, which "events" would be taken for.
  documentEvents(
    app,
    '/transfers/events',
    'all transfers as they are, then each that changes, about five times a second',
  )
  app.get('/transfers/events', (c) => events(c, (signal) => transfers.watchAll(signal), keepAliveMs))
  app.openapi(
    createRoute({
      method: 'get',
      path: '/transfers/{id}',
      tags,
      request: { params },
      responses: { 200: answer(TransferSchema, 'how it stands'), default: refusal },
    }),
    (c) => c.json(find(c.req.valid('param').id), 200),
  )
  app.openapi(
    createRoute({
      method: 'patch',
      path: '/transfers/{id}',
      tags,
      request: { params, body: { ...answer(TransferPatch, 'its limit from now on'), required: true } },
      responses: { 200: answer(TransferSchema, 'changed'), default: refusal },
    }),
    (c) => c.json(transfers.setLimit(c.req.valid('param').id, c.req.valid('json').limit), 200),
  )
  app.openapi(
    createRoute({
      method: 'delete',
      path: '/transfers/{id}',
      tags,
      request: { params },
      responses: {
        200: answer(TransferSchema, 'stopped; what was verified is kept for the next attempt'),
        default: refusal,
      },
    }),
    (c) => c.json(transfers.cancel(c.req.valid('param').id), 200),
  )
  app.openapi(
    createRoute({
      method: 'post',
      path: '/transfers/{id}/pause',
      tags,
      request: { params },
      responses: { 200: answer(TransferSchema, 'stopped until it is resumed; what it has stays'), default: refusal },
    }),
    (c) => c.json(transfers.pause(c.req.valid('param').id), 200),
  )
  app.openapi(
    createRoute({
      method: 'post',
      path: '/transfers/{id}/resume',
      tags,
      request: { params },
      responses: { 200: answer(TransferSchema, 'it goes on'), default: refusal },
    }),
    (c) => c.json(transfers.resume(c.req.valid('param').id), 200),
  )
  documentEvents(app, '/transfers/{id}/events', 'the transfer as it changes, the last event at its end', params)
  app.get('/transfers/:id/events', (c) => {
    const { transfer } = find(c.req.param('id'))
    return events(c, (signal) => transfers.watch(transfer, signal), keepAliveMs)
  })
}

function documentEvents(app: App, path: string, what: string, params?: z.ZodObject): void {
  app.openAPIRegistry.registerPath({
    method: 'get',
    path,
    tags,
    ...(params ? { request: { params } } : {}),
    responses: {
      200: {
        description: `server-sent events named "transfer": ${what}`,
        content: { 'text/event-stream': { schema: TransferSchema } },
      },
      default: refusal,
    },
  })
}

function events(c: AppContext, watch: (signal: AbortSignal) => AsyncIterable<TransferBody>, keepAliveMs: number) {
  return streamSSE(c, async (stream) => {
    const gone = new AbortController()
    stream.onAbort(() => gone.abort())
    await pump(watch(gone.signal)[Symbol.asyncIterator](), stream, keepAliveMs)
  })
}

/** Sends one state after the other, the next one asked for once the reader has taken the one before. */
async function pump(states: AsyncIterator<TransferBody>, stream: SSEStreamingApi, keepAliveMs: number): Promise<void> {
  for (let next = states.next(); !stream.aborted; ) {
    let timer: NodeJS.Timeout | undefined
    const silence = new Promise<undefined>((resolve) => {
      timer = setTimeout(resolve, keepAliveMs, undefined)
    })
    const got = await Promise.race([next, silence]).finally(() => clearTimeout(timer))
    if (got?.done) return
    if (got) {
      await stream.writeSSE({ event: 'transfer', data: JSON.stringify(got.value) })
      next = states.next()
    } else await stream.write(': nothing has changed\n\n')
  }
}
