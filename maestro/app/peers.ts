import { setImmediate } from 'node:timers/promises'
import { createRoute, z } from '@hono/zod-openapi'
import type { Clock } from '../../common/clock.ts'
import { type App, answer, refusal, remoteAddress } from '../../common/http.ts'
import {
  type FileEntry,
  HeartbeatRequest,
  LeaseSchema,
  PageQuery,
  PatchFilesRequest,
  PeerIdSchema,
  type PeerRow,
  PeersResponse,
  RegisterRequest,
} from '../../common/schemas.ts'
import type { DirectoryStore, PeerRecord } from '../directory/store.ts'
import type { Registry } from '../registry.ts'

const NAMES_SHOWN = 100
/** Peers whose names are read in one go: a page of many peers must not hold up other requests. */
const ROWS_PER_TURN = 20

const IdParam = z.object({ id: PeerIdSchema })
const json = <S extends z.ZodType>(schema: S) => ({ required: true, content: { 'application/json': { schema } } })

const register = createRoute({
  method: 'post',
  path: '/register',
  tags: ['peers'],
  summary: 'Open a lease: a peer and everything it offers',
  request: { body: json(RegisterRequest) },
  responses: {
    200: answer(LeaseSchema, 'the peer was known; what it offered before is replaced'),
    201: answer(LeaseSchema, 'a new lease'),
    400: refusal,
    403: refusal,
    409: refusal,
    413: refusal,
    429: refusal,
  },
})

const heartbeat = createRoute({
  method: 'post',
  path: '/heartbeat',
  tags: ['peers'],
  summary: 'Renew a lease',
  request: { body: json(HeartbeatRequest) },
  responses: { 200: answer(LeaseSchema, 'renewed'), 400: refusal, 404: refusal, 409: refusal },
})

const patch = createRoute({
  method: 'patch',
  path: '/peers/{id}/files',
  tags: ['peers'],
  summary: 'Announce what changed between two revisions',
  description: 'Many changes go in several requests: all but the last from a revision to itself.',
  request: { params: IdParam, body: json(PatchFilesRequest) },
  responses: { 200: answer(LeaseSchema, 'applied'), 400: refusal, 404: refusal, 409: refusal, 413: refusal },
})

const withdraw = createRoute({
  method: 'delete',
  path: '/peers/{id}',
  tags: ['peers'],
  summary: 'Close a lease',
  request: { params: IdParam },
  responses: { 200: answer(z.object({ id: PeerIdSchema }), 'withdrawn'), 404: refusal },
})

const list = createRoute({
  method: 'get',
  path: '/peers',
  tags: ['peers'],
  summary: 'Live peers, by id',
  request: { query: PageQuery },
  responses: { 200: answer(PeersResponse, 'a page of peers'), 400: refusal },
})

export function addPeerRoutes(app: App, deps: { registry: Registry; store: DirectoryStore; clock: Clock }): void {
  const { registry, store, clock } = deps

  app.openapi(register, async (c) => {
    const { id, peer, grpc_port: grpcPort, revision, files } = c.req.valid('json')
    const call = { id, peer, grpcPort, revision, files: files.map(entryOf), from: remoteAddress(c) }
    const { lease, renewed } = await registry.register(call)
    return c.json(lease, renewed ? 200 : 201)
  })

  app.openapi(heartbeat, async (c) => {
    const { id, revision } = c.req.valid('json')
    return c.json(await registry.heartbeat(id, revision), 200)
  })

  app.openapi(patch, async (c) => {
    const { add, ...change } = c.req.valid('json')
    return c.json(await registry.patch(c.req.valid('param').id, { ...change, add: add.map(entryOf) }), 200)
  })

  app.openapi(withdraw, async (c) => {
    const { id } = c.req.valid('param')
    await registry.withdraw(id)
    return c.json({ id }, 200)
  })

  app.openapi(list, async (c) => {
    const { limit, after } = c.req.valid('query')
    const records = await store.peers(after ?? '', limit, clock.now())
    const peers = await rowsOf(store, records)
    return c.json({ peers, next: records.length === limit ? records.at(-1)!.id : null }, 200)
  })
}

/** A bare name is an entry of which no more is known. */
function entryOf(file: FileEntry | FileEntry['name']): FileEntry {
  return typeof file === 'string' ? { name: file, size: null, id: null } : file
}

async function rowsOf(store: DirectoryStore, records: readonly PeerRecord[]): Promise<PeerRow[]> {
  const rows: PeerRow[] = []
  for (const [i, record] of records.entries()) {
    if (i % ROWS_PER_TURN === ROWS_PER_TURN - 1) await setImmediate()
    rows.push({
      id: record.id,
      rest: record.rest,
      grpc_port: record.grpcPort,
      files: (await store.namesOf(record.id, NAMES_SHOWN)).sort(),
      file_count: record.files,
      status: 'alive',
      last_seen: new Date(record.lastSeen).toISOString(),
      revision: record.revision,
    })
  }
  return rows
}
