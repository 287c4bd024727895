import { asNetworkError, errnoOf, NetworkError } from './errors.ts'

/** What to tell a person whose port or address can't be listened on; `flag` is what sets the port. */
export function listenFailure(error: unknown, ip: string, port: number, flag = '--port'): NetworkError {
  switch (errnoOf(error)) {
    case 'EADDRINUSE':
      return new NetworkError(
        'unavailable',
        `port ${port} on ${ip} is in use: stop the other program, or choose another port by ${flag}`,
        { port },
        error,
      )
    case 'EADDRNOTAVAIL':
      return new NetworkError(
        'unavailable',
        `${ip} is not an address of this machine: check the key "ip"`,
        { ip },
        error,
      )
    case 'EACCES':
      return new NetworkError(
        'forbidden',
        `port ${port} is reserved for the system: choose one from 1024 up`,
        { port },
        error,
      )
    default:
      return asNetworkError(error)
  }
}
