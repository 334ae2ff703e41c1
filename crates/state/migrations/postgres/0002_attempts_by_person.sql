-- The key of an attempt begins with the person, as that of its delivery: attempts of one transaction then lie side by side.
ALTER TABLE attempt DROP CONSTRAINT attempt_pkey;
ALTER TABLE attempt ADD PRIMARY KEY (profile, delivery, n);
