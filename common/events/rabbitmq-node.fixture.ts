import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { access, chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { Connection } from 'rabbitmq-client'

const START_MS = 90_000
/** Erlang's: it knows at which port a node is. */
const NAME_SERVER = 'epmd'
const run = promisify(execFile)

/** A RabbitMQ of a test's own, on loopback, with a disk of its own. */
export interface TestBroker {
  readonly url: string
  readonly port: number
  /** Ends it as a power cut would. */
  kill(): Promise<void>
  /** Ends it politely, and starts it again: all that it was told is on its disk then, queues that are new included. */
  restart(): Promise<void>
  /** Starts it again, with what was on its disk. */
  start(): Promise<void>
  /** Whether it takes its disk to be full. */
  setDiskAlarm(on: boolean): Promise<void>
  /** Ends it, and removes its disk. */
  stop(): Promise<void>
}

/** Where RabbitMQ's own scripts are: those that switch to its user, as Debian's, come after those that don't. */
export async function brokerScripts(): Promise<string | undefined> {
  for (const folder of ['/usr/lib/rabbitmq/bin', ...(process.env.PATH ?? '').split(delimiter)]) {
    const found = await access(join(folder, 'rabbitmq-server')).then(
      () => true,
      () => false,
    )
    if (found) return folder
  }
  return undefined
}

/** A node that runs; beside it a name server for it alone, so that neither knows of others on this machine. */
export async function startBroker(scripts: string): Promise<TestBroker> {
  const home = await mkdtemp(join(tmpdir(), 'rabbitmq-'))
  const [port, distPort, epmdPort] = await freePorts(3)
  const node = `test-${randomBytes(4).toString('hex')}@localhost`
  const cookie = join(home, '.erlang.cookie')
  await writeFile(cookie, randomBytes(12).toString('hex'))
  await chmod(cookie, 0o400)
  await writeFile(join(home, 'rabbitmq.conf'), `listeners.tcp.1 = 127.0.0.1:${port}\nlog.console = false\n`)
  await writeFile(join(home, 'enabled_plugins'), '[].\n')
  await writeFile(join(home, 'env.conf'), '')
  const env = {
    PATH: process.env.PATH,
    HOME: home,
    LANG: 'C.UTF-8',
    ERL_EPMD_PORT: String(epmdPort),
    ERL_EPMD_ADDRESS: '127.0.0.1',
    RABBITMQ_NODENAME: node,
    RABBITMQ_NODE_IP_ADDRESS: '127.0.0.1',
    RABBITMQ_NODE_PORT: String(port),
    RABBITMQ_DIST_PORT: String(distPort),
    RABBITMQ_CONF_ENV_FILE: join(home, 'env.conf'),
    RABBITMQ_CONFIG_FILE: join(home, 'rabbitmq'),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(home, 'enabled_plugins'),
    RABBITMQ_MNESIA_BASE: join(home, 'mnesia'),
    RABBITMQ_LOG_BASE: join(home, 'log'),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false',
    // The script becomes the broker then, instead of waiting for it.
    RUNNING_UNDER_SYSTEMD: 'true',
  }
  const url = `amqp://guest:guest@127.0.0.1:${port}`
  const names = spawn(NAME_SERVER, ['-port', String(epmdPort), '-address', '127.0.0.1'], { env, stdio: 'ignore' })
  const namesEnded = once(names, 'exit')
  let child: ChildProcess | undefined

  const broker: TestBroker = {
    url,
    port: port!,
    async kill() {
      if (!child || child.exitCode !== null || child.signalCode !== null) return
      const ended = once(child, 'exit')
      process.kill(-child.pid!, 'SIGKILL')
      await ended
    },
    async restart() {
      const ended = once(child!, 'exit')
      child!.kill('SIGTERM')
      await ended
      await broker.start()
    },
    async start() {
      // A process group of its own, so that what the broker starts ends with it.
      child = spawn(join(scripts, 'rabbitmq-server'), { env, stdio: 'ignore', detached: true })
      await answering(url, child)
    },
    async setDiskAlarm(on) {
      await run(join(scripts, 'rabbitmqctl'), ['-n', node, 'set_disk_free_limit', on ? '1000000GB' : '1MB'], {
        env,
        timeout: START_MS,
      })
    },
    async stop() {
      await broker.kill()
      names.kill('SIGKILL')
      await namesEnded
      await rm(home, { recursive: true, force: true, maxRetries: 5 })
    },
  }
  try {
    await broker.start()
  } catch (error) {
    await broker.stop()
    throw error
  }
  return broker
}

async function answering(url: string, child: ChildProcess): Promise<void> {
  const connection = new Connection({ url, retryLow: 100, retryHigh: 300, connectionTimeout: 5000 })
  connection.on('error', () => {})
  const ended = new AbortController()
  const died = once(child, 'exit', { signal: ended.signal }).then(
    ([code, signal]) => {
      throw new Error(`the broker ended with ${signal ?? code}`)
    },
    () => {},
  )
  try {
    await Promise.race([connection.onConnect(START_MS), died])
  } finally {
    ended.abort()
    connection.unsafeDestroy()
  }
}

/** Free at present; a moment passes until they are used. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => net.createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => (server.address() as net.AddressInfo).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}
