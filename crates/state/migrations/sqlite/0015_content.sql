-- Hash of what a delivery says: nobody gets the same words twice within a day.
ALTER TABLE delivery ADD COLUMN content TEXT;
