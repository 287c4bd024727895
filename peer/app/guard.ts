import { timingSafeEqual } from 'node:crypto'
import { isIP } from 'node:net'
import type { MiddlewareHandler } from 'hono'
import { isLoopback } from '../../common/address.ts'
import { NetworkError } from '../../common/errors.ts'
import { type AppContext, type NodeBindings, remoteAddress } from '../../common/http.ts'
import { sha256 } from '../../common/merkle.ts'

export interface GuardOptions {
  token: string | undefined
  advertiseHost: string | undefined
}

/**
 * Lets only the machine's own user pass: from loopback, or with the token. A web page that the user has open is not
 * the user: a request that a page of another origin sent, or one for a host name that was rebound to this machine,
 * is refused.
 */
export function ownUserOnly(options: GuardOptions): MiddlewareHandler<{ Bindings: NodeBindings }> {
  return async (c, next) => {
    refuseForeignPages(c, options.advertiseHost)
    if (!hasToken(c, options.token) && !isLoopback(remoteAddress(c) ?? 'unknown'))
      throw new NetworkError(
        'unauthorized',
        'this route is for the user of this machine: call it from there, or with the token of its configuration ("Authorization: Bearer …")',
      )
    await next()
  }
}

function refuseForeignPages(c: AppContext, advertiseHost: string | undefined): void {
  const host = c.req.header('host') ?? ''
  const name = hostName(host)
  if (!isLoopback(name) && isIP(name) === 0 && name !== advertiseHost?.toLowerCase())
    throw new NetworkError('forbidden', 'this route is not served under that host name: use 127.0.0.1')
  const origin = c.req.header('origin')
  const foreign = origin !== undefined ? origin !== `http://${host}` : c.req.header('sec-fetch-site') === 'cross-site'
  if (foreign) throw new NetworkError('forbidden', 'this route is not for web pages of another origin')
}

function hostName(host: string): string {
  return host
    .toLowerCase()
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1')
}

function hasToken(c: AppContext, token: string | undefined): boolean {
  const sent = /^Bearer (.+)$/.exec(c.req.header('authorization') ?? '')?.[1]
  return (
    token !== undefined && sent !== undefined && timingSafeEqual(sha256(Buffer.from(sent)), sha256(Buffer.from(token)))
  )
}
