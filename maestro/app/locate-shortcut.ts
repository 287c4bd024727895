import type { Clock } from '../../common/clock.ts'
import type { Shortcut } from '../../common/http.ts'
import type { FileName } from '../../common/ids.ts'
import type { RequestMetrics } from '../../common/request-metrics.ts'
import type { DirectoryStore } from '../directory/store.ts'
import { PROVIDERS_SHOWN } from './files.ts'

const QUERY = '/locate?file='

/**
 * `GET /locate?file=NAME` of a name that is there, which is what a network asks its Maestro nearly all the time: the
 * same answer as the route in files.ts gives, for half the work. Whatever is not plain (other parameters, no such name,
 * a bad name, a failure) is left to that route. The name needs no check: the directory holds none but valid ones.
 */
export function locateShortcut(deps: { store: DirectoryStore; clock: Clock; requests: RequestMetrics }): Shortcut {
  const { store, clock, requests } = deps
  return (incoming, outgoing) => {
    const { method, url } = incoming
    if (method !== 'GET' || !url?.startsWith(QUERY) || url.includes('&')) return false
    const begin = performance.now()
    const file = decode(url.slice(QUERY.length))
    return store.locateName(file as FileName, clock.now(), PROVIDERS_SHOWN).then((peers) => {
      if (peers.length === 0) return false
      const body = JSON.stringify({ file, peers })
      outgoing.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
      outgoing.end(body)
      requests.record('GET', '/locate', 200, performance.now() - begin)
      return true
    })
  }
}

function decode(text: string): string {
  if (!text.includes('%') && !text.includes('+')) return text
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    // No name is empty.
    return ''
  }
}
