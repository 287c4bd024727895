import type { Shortcut } from '../../common/http.ts'
import type { RequestMetrics } from '../../common/request-metrics.ts'
import { HeartbeatRequest, type Lease } from '../../common/schemas.ts'
import type { Registry } from '../registry.ts'

type Incoming = Parameters<Shortcut>[0]

/** No heartbeat is longer, bytes. */
const MAX_BODY = 1024

/**
 * `POST /heartbeat` that renews a lease, which every peer sends all the time: the same answer as the route in peers.ts
 * gives, for half the work. Whatever is not plain (a bad body, a lost lease, another revision) is left to that route.
 */
export function heartbeatShortcut(deps: { registry: Registry; requests: RequestMetrics }): Shortcut {
  const { registry, requests } = deps
  return (incoming, outgoing) => {
    const { method, url, headers } = incoming
    if (method !== 'POST' || url !== '/heartbeat') return false
    if (headers['content-type'] !== 'application/json' || !(Number(headers['content-length']) <= MAX_BODY)) return false
    const begin = performance.now()
    return renewed(incoming, registry).then((lease) => {
      if (!lease) return false
      const body = JSON.stringify(lease)
      outgoing.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
      outgoing.end(body)
      requests.record('POST', '/heartbeat', 200, performance.now() - begin)
      return true
    })
  }
}

/** @throws whatever is wrong with the heartbeat; its route tells it to the peer */
async function renewed(incoming: Incoming, registry: Registry): Promise<Lease | undefined> {
  const body = await bodyOf(incoming)
  const heartbeat = HeartbeatRequest.safeParse(JSON.parse(body.toString()))
  return heartbeat.success ? registry.heartbeat(heartbeat.data.id, heartbeat.data.revision) : undefined
}

/** The whole body, left where the app finds it should it have to answer. */
function bodyOf(incoming: Incoming & { rawBody?: Buffer }): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
    incoming.once('end', () => {
      incoming.rawBody = Buffer.concat(chunks)
      resolve(incoming.rawBody)
    })
    incoming.once('error', reject)
  })
}
