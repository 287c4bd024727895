import { createRoute } from '@hono/zod-openapi'
import { streamSSE } from 'hono/streaming'
import { z } from 'zod'
import { NetworkError } from '../../common/errors.ts'
import { type App, answer, refusal } from '../../common/http.ts'
import { printable } from '../../common/ids.ts'
import { type TransferBody, TransferRequest, TransferSchema, TransfersResponse } from '../../common/schemas.ts'

/** The transfer manager, as REST drives it. */
export interface Transfers {
  start(request: z.output<typeof TransferRequest>): TransferBody
  /** newest first */
  list(): TransferBody[]
  get(id: string): TransferBody | undefined
  /** @throws NetworkError `not_found`; `conflict` where it has ended */
  cancel(id: string): TransferBody
  /** The transfer now, at every change, and at its end, where the iteration ends. */
  watch(id: string, signal: AbortSignal): AsyncIterable<TransferBody>
}

const tags = ['transfers']
const params = z.object({ id: z.string().max(64).meta({ description: 'the number of the transfer' }) })

export function addTransferRoutes(app: App, transfers: Transfers): void {
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
      responses: { 200: answer(TransfersResponse, 'running and recent ones, newest first'), default: refusal },
    }),
    (c) => c.json({ transfers: transfers.list() }, 200),
  )
  app.openapi(
    createRoute({
      method: 'post',
      path: '/transfers',
      tags,
      request: { body: { ...answer(TransferRequest, 'what to download into the shared folder'), required: true } },
      responses: { 202: answer(TransferSchema, 'it is on its way'), default: refusal },
    }),
    (c) => c.json(transfers.start(c.req.valid('json')), 202),
  )
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
  app.openAPIRegistry.registerPath({
    method: 'get',
    path: '/transfers/{id}/events',
    tags,
    request: { params },
    responses: {
      200: {
        description: 'server-sent events named "transfer", the last one at its end',
        content: { 'text/event-stream': { schema: TransferSchema } },
      },
      default: refusal,
    },
  })
  app.get('/transfers/:id/events', (c) => {
    const { transfer } = find(c.req.param('id'))
    return streamSSE(c, async (stream) => {
      const gone = new AbortController()
      stream.onAbort(() => gone.abort())
      for await (const snapshot of transfers.watch(transfer, gone.signal))
        await stream.writeSSE({ event: 'transfer', data: JSON.stringify(snapshot) })
    })
  })
}
