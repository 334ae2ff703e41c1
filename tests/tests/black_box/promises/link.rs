//! A line between a node and Postgres that can be cut: what is said meanwhile arrives when it is whole again, as on a network that loses packets.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

pub struct Link {
    pub port: u16,
    whole: Arc<(Mutex<bool>, Condvar)>,
}

impl Link {
    /// A line to a port of this machine.
    pub fn to(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Self {
            port: listener.local_addr().unwrap().port(),
            whole: Arc::new((Mutex::new(true), Condvar::new())),
        };
        let whole = Arc::clone(&link.whole);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", upstream)) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to, whole) =
                        (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&whole));
                    std::thread::spawn(move || carry(from, to, &whole));
                }
            }
        });
        link
    }

    /// Cuts it, or makes it whole.
    pub fn set(&self, whole: bool) {
        *self.whole.0.lock().unwrap() = whole;
        self.whole.1.notify_all();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, whole: &(Mutex<bool>, Condvar)) {
    let mut block = [0; 16_384];
    loop {
        let read = from.read(&mut block).unwrap_or(0);
        drop(whole.1.wait_while(whole.0.lock().unwrap(), |whole| !*whole).unwrap());
        if read == 0 || to.write_all(&block[..read]).is_err() {
            break;
        }
    }
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}
