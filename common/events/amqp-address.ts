import type { ConnectionOptions } from 'rabbitmq-client'
import { errnoOf, NetworkError } from '../errors.ts'
import { printable } from '../ids.ts'

/** Where a RabbitMQ is, and what is wrong with it, as people are told: never with its password. */

/** s; a connection that is silent for twice as long is lost. `?heartbeat=` in the address overrides it. */
const HEARTBEAT = 10
const CONNECT_MS = 10_000

export interface BrokerAddress {
  /** `amqp://host:port`, with the virtual host where it isn't the default */
  readonly place: string
  readonly options: ConnectionOptions
}

/** @param text `amqp://user:password@host:port/vhost`, or `amqps:`; user and password are `guest` where none are given
 * @throws NetworkError `invalid` */
export function parseBrokerAddress(text: string): BrokerAddress {
  const url = new URL(text)
  const secure = url.protocol === 'amqps:'
  const port = url.port || (secure ? '5671' : '5672')
  const vhost = decoded(url.pathname.slice(1)) || '/'
  return {
    place: `${url.protocol}//${url.hostname}:${port}${vhost === '/' ? '' : `/${printable(vhost)}`}`,
    options: {
      hostname: url.hostname.replace(/^\[(.*)\]$/, '$1'),
      port,
      vhost,
      username: decoded(url.username) || 'guest',
      password: decoded(url.password) || 'guest',
      tls: secure,
      heartbeat: Number(url.searchParams.get('heartbeat')) || HEARTBEAT,
      connectionTimeout: CONNECT_MS,
      noDelay: true,
    },
  }
}

/** @throws NetworkError `invalid`, without the text: it may be a password */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch (error) {
    throw new NetworkError('invalid', 'the key "events" has a "%" that encodes nothing: write %25 for it', {}, error)
  }
}

/** What became of a connection to a RabbitMQ, as the error `unavailable`. @param open whether it was open before */
export function brokerProblem(error: unknown, place: string, open: boolean): NetworkError {
  if (error instanceof NetworkError) return error
  const reason = errnoOf(error) ?? 'unknown'
  const text = printable(error instanceof Error ? error.message : String(error), 300)
  return new NetworkError('unavailable', sentence(reason, text, place, open), { reason }, error)
}

function sentence(reason: string, text: string, place: string, open: boolean): string {
  switch (reason) {
    case 'ACCESS_REFUSED':
      if (/login was refused/i.test(text))
        return `the RabbitMQ at ${place} refuses the user or the password: check the key "events"`
      return `the RabbitMQ at ${place} does not permit this user enough: ${text}`
    case 'RESOURCE_LOCKED':
      return `the RabbitMQ at ${place} has another process with the same id: give each its own "id" (${text})`
    case 'NOT_ALLOWED':
      return `the RabbitMQ at ${place} has no such virtual host, or not for this user: ${text}`
    case 'PRECONDITION_FAILED':
      return `the RabbitMQ at ${place} holds an exchange or queue of that name with other settings: delete it there, or choose another "events_prefix" (${text})`
    case 'CONNECTION_FORCED':
      return `the RabbitMQ at ${place} is shutting down`
    case 'FRAME_ERROR':
    case 'VERSION_MISMATCH':
    case 'UNEXPECTED_FRAME':
    case 'COMMAND_INVALID':
      return `what answers at ${place} speaks no AMQP 0-9-1: is that the port of a RabbitMQ?`
    case 'CONN_CLOSE':
      return open
        ? `the RabbitMQ at ${place} closed the connection`
        : `what answers at ${place} closed the connection before it was open: is that the port of a RabbitMQ?`
    case 'CONNECTION_TIMEOUT':
      return `the RabbitMQ at ${place} does not answer within ${CONNECT_MS / 1000} s`
    case 'SOCKET_TIMEOUT':
      return `the RabbitMQ at ${place} has fallen silent`
    default:
      return open
        ? `the connection to the RabbitMQ at ${place} was lost: ${text}`
        : `the RabbitMQ at ${place} does not answer (${reason === 'unknown' ? text : reason})`
  }
}
